"""This project beside its peers, measured in one run; each script's last line is one JSON object."""
