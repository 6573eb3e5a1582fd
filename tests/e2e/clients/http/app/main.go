// An app on net/http that speaks HTTP/1.1 and, by prior knowledge, HTTP/2. It says where it listens.
//
//	/api/echo    the body comes back as it comes, with its length in a trailer
//	/api/refuse  a 413 before the body has been read
//	/api/hint    a 103 before the answer
//	/api/text    some KiB of text, once all of the request has come
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
)

func echo(out http.ResponseWriter, request *http.Request) {
	control := http.NewResponseController(out)
	_ = control.EnableFullDuplex()
	out.Header().Set("Trailer", "X-Length")
	out.Header().Set("X-Protocol", request.Proto)
	out.Header().Set("X-Caller", request.Header.Get("X-Spiffe-Id"))
	var length int64
	block := make([]byte, 64<<10)
	for {
		count, err := request.Body.Read(block)
		length += int64(count)
		_, _ = out.Write(block[:count])
		if err == io.EOF {
			break
		} else if err != nil {
			panic(http.ErrAbortHandler)
		}
		_ = control.Flush()
	}
	out.Header().Set("X-Length", strconv.FormatInt(length, 10))
}

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("/api/echo", echo)
	mux.HandleFunc("/api/refuse", func(out http.ResponseWriter, _ *http.Request) {
		http.Error(out, "too much", http.StatusRequestEntityTooLarge)
	})
	mux.HandleFunc("/api/hint", func(out http.ResponseWriter, _ *http.Request) {
		out.Header().Set("Link", "</style.css>; rel=preload")
		out.WriteHeader(http.StatusEarlyHints)
		_, _ = out.Write([]byte("hello"))
	})
	text := []byte(strings.Repeat("0123456789abcdef", 512))
	mux.HandleFunc("/api/text", func(out http.ResponseWriter, request *http.Request) {
		if _, err := io.Copy(io.Discard, request.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
		_, _ = out.Write(text)
	})
	server := &http.Server{Handler: mux, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	log.Fatal(server.Serve(listener))
}
