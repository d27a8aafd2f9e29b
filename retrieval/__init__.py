"""Reading what the flows have stored: search, status, and whether both sides are in sync."""
