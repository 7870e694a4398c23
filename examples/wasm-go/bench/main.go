// Calls per second of extract and inject, beside OpenTelemetry's propagator for Go: prints one JSON line per round, the
// module and its peer in turn. Usage: bench MODULE ROUNDS MILLISECONDS
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"wasm-go/tracebaton"
)

func perSecond(length time.Duration, f func()) float64 {
	start, calls := time.Now(), 0
	for time.Since(start) < length {
		for range 20 {
			f()
		}
		calls += 20
	}
	return float64(calls) / time.Since(start).Seconds()
}

func main() {
	ctx := context.Background()
	module, err := tracebaton.Open(ctx, os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	rounds, _ := strconv.Atoi(os.Args[2])
	millis, _ := strconv.Atoi(os.Args[3])
	headers := http.Header{
		"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
		"Tracestate":  {"vendor=1,other=2"},
		"Baggage":     {"session_id=4f1e2d3c,user=alice,plan=pro"},
	}
	peer := propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
	for range rounds {
		ours := perSecond(time.Duration(millis)*time.Millisecond, func() {
			inbound, err := module.Extract(ctx, headers)
			if err == nil {
				err = module.Inject(ctx, http.Header{}, inbound.Span, inbound, "go", "http://localhost/")
			}
			if err != nil {
				log.Fatal(err)
			}
		})
		theirs := perSecond(time.Duration(millis)*time.Millisecond, func() {
			extracted := peer.Extract(ctx, propagation.HeaderCarrier(headers))
			peer.Inject(extracted, propagation.HeaderCarrier(http.Header{}))
		})
		fmt.Printf("{\"ours\": %f, \"peer\": %f}\n", ours, theirs)
	}
}
