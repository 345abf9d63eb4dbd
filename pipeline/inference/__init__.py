"""Images in, cut-outs out: decoding, the model, the children that do it, and the stage."""
