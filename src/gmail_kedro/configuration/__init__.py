"""How a profile is read: one parser for ``--params``, and files that are checked whole before anything runs."""
