"""What finished runs teach: corrections of estimated times, and whether a model still holds."""
