// Runs all of h2spec, its strict cases too, against one address; over mutual TLS if it is given an SVID.
//
// Usage: h2spec HOST:PORT /PATH [SVID.pem KEY.pem]
package main

import (
	"log"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/summerwind/h2spec"
	"github.com/summerwind/h2spec/config"
)

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func main() {
	host, port, err := net.SplitHostPort(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	conf := &config.Config{
		Host:         host,
		Port:         must(strconv.Atoi(port)),
		Path:         os.Args[2],
		Timeout:      10 * time.Second,
		MaxHeaderLen: 4000,
		Strict:       true,
	}
	if len(os.Args) > 4 {
		// Who the server is, other tests check.
		conf.TLS, conf.Insecure = true, true
		conf.CertFile, conf.CertKeyFile = os.Args[3], os.Args[4]
	}
	if !must(h2spec.Run(conf)) {
		os.Exit(1)
	}
}
