"""WHEN it moves: the stages, and everything that starts them.

    UploadProducer         stages/inference        stages/routing          ResultSubscription
        |                   ResultBuilder               Router                    ^
        v                       |     ^                   |                       |
    uploads.L  ------->    ProcessPool   ---->  cutouts.L ---> replay?  ----> ephemeral.L
                        decode, infer,                    fresh consent?     (gone in 24 h)
                        compose, encode                         |
                                                                +-----------> retained
                           ConsentWriter ---->  consent.L ------+                |
                                  +---------->  ledger.L                         v
                                                                       stages/encryption
                                                                         EncryptionSink
                                                                    (vault, private bucket)

Each stage is a process.  `cli` starts it, `bootstrap` builds it from `settings`, and `runtime`
runs it.
"""
