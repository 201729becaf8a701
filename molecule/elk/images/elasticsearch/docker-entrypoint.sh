#!/bin/bash
# As the official image, in bash: dash drops variables that have dots in their names. Any other command than its
# own is run as it is.
[ "${1:-eswrapper}" = eswrapper ] || exec "$@"
exec python3 /usr/local/lib/stand-in
