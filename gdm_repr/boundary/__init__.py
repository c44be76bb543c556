"""Where the package meets callers, files and the system, and checks what comes in."""
