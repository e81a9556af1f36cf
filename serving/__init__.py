"""What people and programs read: the API, over the serving store alone."""
