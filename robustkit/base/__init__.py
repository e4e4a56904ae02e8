"""What everything stands on: errors, the registry, values that users type, progress, files. Never imports torch."""
