"""What all other packages share. Imports nothing else from divaug."""
