"""Work on text, pure: cleaning prose, and cutting texts where their structure allows it."""
