"""Pure accounting: functions of state and numbers. No clock, lock, I/O or event loop."""
