"""The inference worker on Faust: read uploads, look ahead, deliver results in order."""
