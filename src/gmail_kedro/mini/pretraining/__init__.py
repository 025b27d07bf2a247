"""Makes the packaged weights of the mini models from the mini world alone: ``make weights``."""
