"""The demo: real photos through the whole pipeline, then a report of what lies where.

photos.py      what is sent
scenario.py    who sends it, through which lane
run.py         the stack up, the photos through it, everything down again
traffic.py     sending and taking, as customers do it
inspection.py  what lies in topics and buckets afterwards
evidence.py    what was found, and which checks hold (pure)
report.py      one HTML file of it
terminal.py    live progress
"""
