"""Fetches and watches X.509 and JWT SVIDs with py-spiffe, and prints one line per fact.

Usage: py_spiffe.py unix:///path/of/the/socket
"""

import sys

from spiffe import JwtSvid, WorkloadApiClient


def say(*words):
    print(*words, flush=True)


def on_update(context):
    ids = sorted(str(svid.spiffe_id) for svid in context.x509_svids)
    authorities = sum(len(bundle.x509_authorities) for bundle in context.x509_bundle_set.bundles)
    say("update", *ids, f"authorities={authorities}")


def main():
    client = WorkloadApiClient(sys.argv[1], default_timeout=20)

    svid = client.fetch_x509_svid()
    say("x509", svid.spiffe_id, f"chain={len(svid.cert_chain)}")
    bundle = client.fetch_x509_bundles().get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
    say("x509-bundle", bundle.trust_domain, f"authorities={len(bundle.x509_authorities)}")

    token = client.fetch_jwt_svid(audience={"orders"})
    bundle = client.fetch_jwt_bundles().get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
    JwtSvid.parse_and_validate(token.token, bundle, {"orders"})
    say("jwt", token.spiffe_id, f"audience={','.join(sorted(token.audience))}")
    validated = client.validate_jwt_svid(token.token, audience="orders")
    say("jwt-validated", validated.spiffe_id)
    try:
        client.validate_jwt_svid(token.token, audience="somebody-else")
        say("jwt-accepted-by-the-wrong-audience")
    except Exception:
        say("jwt-refused-for-another-audience")

    stream = client.stream_x509_contexts(on_success=on_update, on_error=lambda error: say("error", error))
    stream.wait_cancelled(timeout=60)


if __name__ == "__main__":
    main()
