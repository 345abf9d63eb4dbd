"""Writers that wait for acknowledgements."""
