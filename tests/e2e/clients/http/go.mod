module svidecar/tests/e2e/clients/http

go 1.26.0
