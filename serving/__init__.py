"""What people and programs read: API and dashboards, over the serving store alone."""
