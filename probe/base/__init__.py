"""What everything stands on: the one exception, array shapes, names, files, devices."""
