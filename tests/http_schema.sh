#!/usr/bin/env bash
# Holds a running server's HTTP API against its own OpenAPI document:
#   tests/http_schema.sh URL
# In a virtual environment below the target directory: requests made of the document must get answers that it
# allows, and a client that is generated from it must make a transfer.
set -euo pipefail
url="$1"
cd "$(dirname "$0")/.."
work="${CARGO_TARGET_DIR:-$PWD/target}/http-schema"
mkdir -p "$work"
cd "$work" # schemathesis keeps what it has found where it runs
work=$PWD
if [ ! -x "$work/venv/bin/schemathesis" ]; then
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install --quiet --disable-pip-version-check schemathesis==4.32.5 openapi-python-client==0.29.1
fi
# The stream has no end. What fits the document may be refused by the ledger, and rules about whole requests (an id in the
# header or in the body) are not in it: so it is not held that all that fits is accepted and nothing else is.
"$work/venv/bin/schemathesis" run "$url/api/v1/openapi.json" --seed 1 --max-examples 15 \
  --phases coverage,fuzzing --exclude-checks positive_data_acceptance,negative_data_rejection \
  --exclude-path '/api/v1/log/{partition}/stream' --no-color

rm -rf "$work/client"
"$work/venv/bin/openapi-python-client" generate --url "$url/api/v1/openapi.json" --output-path "$work/client" --meta none
"$work/venv/bin/python" - "$url" <<'PYTHON'
import sys
from client import Client
from client.api.accounts import create_account, get_account
from client.api.transfers import create_transfer, submit_events
from client.models import Batch, GivenAccount, GivenTransfer

api = Client(base_url=sys.argv[1])
for name in ("generated till", "generated anna"):
    assert create_account.sync_detailed(client=api, body=GivenAccount(id=name, ledger=1, code=1)).status_code == 201
transfer = GivenTransfer(
    id="generated 1", debit_account="generated till", credit_account="generated anna", amount="1250", ledger=1, code=1
)
first = create_transfer.sync_detailed(client=api, body=transfer)
assert (first.status_code, first.parsed.verdict) == (201, "ok"), first
again = create_transfer.sync_detailed(client=api, body=transfer)
assert (again.status_code, again.parsed.repeat) == (200, True), again
token = first.headers["walengine-token"]
account = get_account.sync(client=api, id="generated anna", walengine_token=token)
assert account.credits_posted == "1250", account
batch = submit_events.sync(client=api, body=Batch(events=[GivenTransfer.from_dict({**transfer.to_dict(), "type": "transfer", "id": "generated 2"})]))
assert [outcome.verdict for outcome in batch.outcomes] == ["ok"], batch
print("the generated client has made a transfer")
PYTHON
