"""Every parameter group as a strict pydantic model: a wrong value is refused before the first node runs."""
