# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Search again and again, each time by a new connection, until a file is there; then say how often, and what failed.

    poll.py ANSWERS CREDENTIALS CA STOP PATIENCE URL …

The nodes are asked in turn. PATIENCE is for how many seconds a search may be tried again, at the next one, as
Elasticsearch's own clients do it; 0 is not at all.
"""

import base64
import itertools
import json
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

answers, credentials, authority, stop, patience, *urls = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
header = {"Authorization": "Basic " + base64.b64encode(Path(credentials).read_bytes().strip()).decode()}
searches, failures = 0, []


def search(url):
    request = urllib.request.Request(url, headers=header)  # noqa: S310 - the scenario gives https
    with urllib.request.urlopen(request, timeout=10, context=context) as answer:  # noqa: S310
        return json.load(answer)


places = itertools.cycle(urls)
while not Path(stop).exists():
    limit = time.monotonic() + float(patience)
    searches += 1
    while True:
        url = next(places)
        try:
            search(url)
            break
        except (OSError, ValueError) as error:
            if time.monotonic() > limit:
                failures.append(f"{url}: {error}")
                break
            time.sleep(0.2)
Path(answers).write_text(json.dumps({"searches": searches, "failures": failures}))
