"""Pure functions on text: cleaning prose, and cutting texts where their structure allows it."""
