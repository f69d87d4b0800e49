"""One module for each command; a module here is a command as soon as it has `register(app)`."""
