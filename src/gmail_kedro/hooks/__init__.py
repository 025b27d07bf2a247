"""What happens around a run of Kedro."""
