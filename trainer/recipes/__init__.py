"""Published runs, one small file each: source, command, cost, and the number to expect."""
