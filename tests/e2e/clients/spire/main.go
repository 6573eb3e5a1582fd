// The administration commands of SPIRE's own spire-server, without the server: what our command line is
// compared with, byte for byte, by tests/spire-commands.
package main

import (
	"fmt"
	"os"

	"github.com/mitchellh/cli"
	"github.com/spiffe/spire/cmd/spire-server/cli/agent"
	"github.com/spiffe/spire/cmd/spire-server/cli/bundle"
	"github.com/spiffe/spire/cmd/spire-server/cli/entry"
	"github.com/spiffe/spire/cmd/spire-server/cli/jwt"
	"github.com/spiffe/spire/cmd/spire-server/cli/token"
	"github.com/spiffe/spire/cmd/spire-server/cli/x509"
)

func main() {
	commands := map[string]func() cli.Command{
		"agent ban":      agent.NewBanCommand,
		"agent count":    agent.NewCountCommand,
		"agent evict":    agent.NewEvictCommand,
		"agent list":     agent.NewListCommand,
		"agent purge":    agent.NewPurgeCommand,
		"agent show":     agent.NewShowCommand,
		"bundle count":   bundle.NewCountCommand,
		"bundle delete":  bundle.NewDeleteCommand,
		"bundle list":    bundle.NewListCommand,
		"bundle set":     bundle.NewSetCommand,
		"bundle show":    bundle.NewShowCommand,
		"entry count":    entry.NewCountCommand,
		"entry create":   entry.NewCreateCommand,
		"entry delete":   entry.NewDeleteCommand,
		"entry show":     entry.NewShowCommand,
		"entry update":   entry.NewUpdateCommand,
		"jwt mint":       jwt.NewMintCommand,
		"token generate": token.NewGenerateCommand,
		"x509 mint":      x509.NewMintCommand,
	}
	program := cli.NewCLI("spire-server", "")
	program.Args = os.Args[1:]
	program.Commands = map[string]cli.CommandFactory{}
	for name, create := range commands {
		program.Commands[name] = func() (cli.Command, error) { return create(), nil }
	}
	code, err := program.Run()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}
