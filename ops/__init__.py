"""Running the stack: private local servers, broker and database configuration, dashboards."""
