"""The demo: real photos through the whole pipeline, then a report of what is stored where.

photos.py            the photos that are sent
scenario.py          the accounts that send them, and their lanes
run.py               starts the stack, runs the scenario, inspects, stops everything
customers.py         sends uploads and receives results, as customers do
stage_processes.py   the stages as processes
visitors.py          API keys of the gateway, for owners and for the person at the terminal
screenshots.py       the account page in a browser
inspection.py        reads topics and buckets afterwards
plaintext_search.py  searches files for pieces of pictures
observations.py      the results of the inspection (pure)
checks.py            the checks, evaluated on the observations (pure)
report.py            one HTML file with all of it; report_rows.py prepares its rows
output_folder.py     the folder that the demo writes
progress.py          progress events; terminal.py shows them
"""
