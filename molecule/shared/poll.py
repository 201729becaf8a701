# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask again and again, each time by a new connection, until a file is there; then say how often, and what failed.

    poll.py ANSWERS CREDENTIALS CA STOP PATIENCE URL …

CREDENTIALS is a file with a user and a password, or with a token. The addresses are asked in turn. PATIENCE is for how
many seconds a request may be tried again, at the next one, as Elasticsearch's own clients do it; 0 is not at all.
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
secret = Path(credentials).read_text().strip()
authorization = "Basic " + base64.b64encode(secret.encode()).decode() if ":" in secret else "Bearer " + secret
header = {"Authorization": authorization}
requests, failures = 0, []


def ask(url):
    request = urllib.request.Request(url, headers=header)  # noqa: S310 - the scenario gives https
    with urllib.request.urlopen(request, timeout=10, context=context) as answer:  # noqa: S310
        return json.load(answer)


places = itertools.cycle(urls)
while not Path(stop).exists():
    limit = time.monotonic() + float(patience)
    requests += 1
    while True:
        url = next(places)
        try:
            ask(url)
            break
        except (OSError, ValueError) as error:
            if time.monotonic() > limit:
                failures.append(f"{url}: {error}")
                break
            time.sleep(0.2)
Path(answers).write_text(json.dumps({"requests": requests, "failures": failures}))
