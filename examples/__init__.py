"""Programs that show twinstream at work on real documents."""
