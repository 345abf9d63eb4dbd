"""WHEN it moves: stages and wiring.

    UploadProducer        inference/stage.py        consent/router.py        ResultSubscription
        |                   ResultMaker                 Router                      ^
        v                     |      ^                    |                         |
    uploads.L  ------->  Pool of children  ----->  cutouts.L ---> replay? ---> ephemeral.L
                          decode, infer,                     fresh consent?     (gone in 24 h)
                          compose, encode                         |
                                                                  +----------> retained
                          ConsentWriter ----> consent.L ----------+               |
                                  +---------> ledger                              v
                                                             sink.py: EncryptionSink
                                                             (vault, private bucket)

Each stage is a process (`running.py`), made from settings in one place (`wiring.py`) and
started by the command line (`cli.py`).
"""
