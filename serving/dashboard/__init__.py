"""Dashboards: pages of Streamlit over the serving store."""
