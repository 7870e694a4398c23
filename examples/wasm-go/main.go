// An HTTP service that carries trace context: it reads the caller's headers, and writes those of its own request to the
// next service, if there is one. Usage: wasm-go MODULE LISTEN [NEXT]
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"

	"wasm-go/tracebaton"
)

func main() {
	ctx := context.Background()
	module, err := tracebaton.Open(ctx, os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	next := ""
	if len(os.Args) > 3 {
		next = os.Args[3]
	}
	fmt.Printf("listening on http://%s\n", listener.Addr())
	log.Fatal(http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if err := handle(module, next, w, request); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	})))
}

func handle(module *tracebaton.Module, next string, w http.ResponseWriter, request *http.Request) error {
	ctx := request.Context()
	inbound, err := module.Extract(ctx, request.Header)
	if err != nil {
		return err
	}
	if next == "" {
		_, err = fmt.Fprintln(w, "hello")
		return err
	}
	span, err := module.NewChild(ctx, inbound.Span)
	if err != nil {
		return err
	}
	outgoing, err := http.NewRequestWithContext(ctx, http.MethodGet, next, nil)
	if err != nil {
		return err
	}
	if err := module.Inject(ctx, outgoing.Header, span, inbound, "wasm-go", next); err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(outgoing)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	w.WriteHeader(answer.StatusCode)
	_, err = io.Copy(w, answer.Body)
	return err
}
