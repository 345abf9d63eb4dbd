"""WHERE it rests.  The only package that imports google-cloud; all sealing happens here."""
