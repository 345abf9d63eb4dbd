"""The encryption sink: recheck consent, seal, create the object, commit the offset."""
