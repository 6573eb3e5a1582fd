// Fetches and watches X.509 and JWT SVIDs with go-spiffe, and prints one line per fact.
//
// Usage: go-spiffe-client unix:///path/of/the/socket
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// watcher prints each update of the stream.
type watcher struct{}

func (watcher) OnX509ContextUpdate(update *workloadapi.X509Context) {
	var ids []string
	for _, svid := range update.SVIDs {
		ids = append(ids, svid.ID.String())
	}
	sort.Strings(ids)
	authorities := 0
	for _, bundle := range update.Bundles.Bundles() {
		authorities += len(bundle.X509Authorities())
	}
	fmt.Printf("update %s authorities=%d\n", strings.Join(ids, " "), authorities)
}

func (watcher) OnX509ContextWatchError(err error) {
	fmt.Println("error", err)
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := must(workloadapi.New(ctx, workloadapi.WithAddr(os.Args[1])))
	defer client.Close()

	svid := must(client.FetchX509SVID(ctx))
	fmt.Printf("x509 %s chain=%d\n", svid.ID, len(svid.Certificates))
	bundles := must(client.FetchX509Bundles(ctx))
	bundle := must(bundles.GetX509BundleForTrustDomain(svid.ID.TrustDomain()))
	fmt.Printf("x509-bundle %s authorities=%d\n", bundle.TrustDomain(), len(bundle.X509Authorities()))
	id, _, err := x509svid.Verify(svid.Certificates, bundles)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("x509-verified", id)

	token := must(client.FetchJWTSVID(ctx, jwtsvid.Params{Audience: "orders"}))
	keys := must(client.FetchJWTBundles(ctx))
	must(jwtsvid.ParseAndValidate(token.Marshal(), keys, []string{"orders"}))
	fmt.Printf("jwt %s audience=%s\n", token.ID, strings.Join(token.Audience, ","))
	validated := must(client.ValidateJWTSVID(ctx, token.Marshal(), "orders"))
	fmt.Println("jwt-validated", validated.ID)
	if _, err := client.ValidateJWTSVID(ctx, token.Marshal(), "somebody-else"); err != nil {
		fmt.Println("jwt-refused-for-another-audience")
	} else {
		fmt.Println("jwt-accepted-by-the-wrong-audience")
	}

	if err := client.WatchX509Context(ctx, watcher{}); err != nil {
		log.Fatal(err)
	}
}
