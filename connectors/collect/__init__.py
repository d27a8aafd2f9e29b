"""Sources of content: the web, feeds, repositories, exports. Each reader is read in a thread."""
