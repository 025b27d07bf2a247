"""The mini world: real scanned digits composed into captioned scenes, in the files of the real corpora."""
