// A gRPC service and its client on grpc-go, without generated code: every message is a google.protobuf.StringValue.
//
// Usage: grpc server            says where it listens, then which calls were cancelled
//
//	grpc client HOST:PORT  makes every kind of call, prints a line per fact, fails at the first surprise
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

type text = wrapperspb.StringValue

const service = "svidecar.test.Echo"

func check(right bool, what string, facts ...any) {
	if !right {
		log.Fatalf("%s: %v", what, facts)
	}
	fmt.Println("ok", what)
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

// The server.

// unary answers with what was asked; the words "fail" and "wait" are special.
func unary(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	question := new(text)
	if err := decode(question); err != nil {
		return nil, err
	}
	switch question.Value {
	case "fail":
		grpc.SetTrailer(ctx, metadata.Pairs("x-trailer", "with the failure"))
		return nil, status.Error(codes.FailedPrecondition, "it does: 100 % ü")
	case "wait":
		<-ctx.Done()
		fmt.Println("cancelled unary", ctx.Err())
		return nil, ctx.Err()
	}
	in, _ := metadata.FromIncomingContext(ctx)
	grpc.SetHeader(ctx, metadata.Pairs("x-header", strings.Join(in["x-asked"], ","), "x-data-bin", strings.Join(in["x-data-bin"], "")))
	grpc.SetTrailer(ctx, metadata.Pairs("x-trailer", "behind"))
	return question, nil
}

// down sends a question back three times, or without end.
func down(_ any, stream grpc.ServerStream) error {
	question := new(text)
	if err := stream.RecvMsg(question); err != nil {
		return err
	}
	for number := 0; number < 3 || question.Value == "forever"; number++ {
		if err := stream.SendMsg(question); err != nil {
			break
		}
		if err := stream.Context().Err(); err != nil {
			break
		}
	}
	if question.Value == "forever" {
		fmt.Println("cancelled down", stream.Context().Err())
	}
	return stream.Context().Err()
}

// up joins all that comes.
func up(_ any, stream grpc.ServerStream) error {
	var all []string
	for {
		part := new(text)
		if err := stream.RecvMsg(part); errors.Is(err, io.EOF) {
			return stream.SendMsg(wrapperspb.String(strings.Join(all, " ")))
		} else if err != nil {
			fmt.Println("cancelled up", err)
			return err
		}
		all = append(all, part.Value)
	}
}

// both answers each message at once.
func both(_ any, stream grpc.ServerStream) error {
	for {
		part := new(text)
		if err := stream.RecvMsg(part); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			fmt.Println("cancelled both", err)
			return err
		}
		if err := stream.SendMsg(part); err != nil {
			return err
		}
	}
}

func serve() {
	server := grpc.NewServer(grpc.MaxRecvMsgSize(16 << 20))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: service,
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Unary", Handler: unary}},
		Streams: []grpc.StreamDesc{
			{StreamName: "Down", Handler: down, ServerStreams: true},
			{StreamName: "Up", Handler: up, ClientStreams: true},
			{StreamName: "Both", Handler: both, ServerStreams: true, ClientStreams: true},
		},
	}, struct{}{})
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	fmt.Println("listening on", listener.Addr())
	log.Fatal(server.Serve(listener))
}

// The client.

func open(ctx context.Context, conn *grpc.ClientConn, method string) grpc.ClientStream {
	desc := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	return must(conn.NewStream(ctx, desc, "/"+service+"/"+method))
}

func send(stream grpc.ClientStream, value string) {
	if err := stream.SendMsg(wrapperspb.String(value)); err != nil {
		log.Fatal(err)
	}
}

func receive(stream grpc.ClientStream) string {
	message := new(text)
	if err := stream.RecvMsg(message); err != nil {
		log.Fatal(err)
	}
	return message.Value
}

func call(address string) {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	conn := must(grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20))))
	ask := func(ctx context.Context, value string, options ...grpc.CallOption) (string, error) {
		answer := new(text)
		err := conn.Invoke(ctx, "/"+service+"/Unary", wrapperspb.String(value), answer, options...)
		return answer.Value, err
	}

	var header, trailer metadata.MD
	with := metadata.AppendToOutgoingContext(ctx, "x-asked", "a", "x-asked", "b", "x-data-bin", "\x00\xff\x01")
	answer, err := ask(with, "hello", grpc.Header(&header), grpc.Trailer(&trailer))
	check(err == nil && answer == "hello", "unary", answer, err)
	check(strings.Join(header["x-header"], ",") == "a,b" && header["x-data-bin"][0] == "\x00\xff\x01", "metadata", header)
	// A server on tonic sends its trailers ahead.
	trailer = metadata.Join(trailer, header)
	check(strings.Join(trailer["x-trailer"], ",") == "behind", "trailers", trailer)

	large := strings.Repeat("0123456789", 800_000)
	answer, err = ask(ctx, large)
	check(err == nil && answer == large, "large", len(answer), err)

	_, err = ask(ctx, "fail", grpc.Trailer(&trailer))
	failure := status.Convert(err)
	check(failure.Code() == codes.FailedPrecondition && failure.Message() == "it does: 100 % ü", "failure", err)
	check(strings.Join(trailer["x-trailer"], ",") == "with the failure", "trailers-only", trailer)

	short, end := context.WithTimeout(ctx, 300*time.Millisecond)
	_, err = ask(short, "wait")
	end()
	// Whoever's clock is first says it: this client's, or the server's, which on tonic has other words for it (hyperium/tonic#1131).
	early := status.Code(err) == codes.Canceled && status.Convert(err).Message() == "Timeout expired"
	check(status.Code(err) == codes.DeadlineExceeded || early, "deadline", err)

	cancelled, cancel := context.WithCancel(ctx)
	stream := open(cancelled, conn, "Down")
	send(stream, "forever")
	_ = stream.CloseSend()
	receive(stream)
	cancel()
	for err = nil; err == nil; {
		err = stream.RecvMsg(new(text))
	}
	check(status.Code(err) == codes.Canceled, "cancellation", err)

	stream = open(ctx, conn, "Down")
	send(stream, "again")
	_ = stream.CloseSend()
	check(receive(stream) == "again" && receive(stream) == "again" && receive(stream) == "again", "down")
	check(errors.Is(stream.RecvMsg(new(text)), io.EOF), "down ends")

	stream = open(ctx, conn, "Up")
	for _, word := range []string{"one", "two", "three"} {
		send(stream, word)
	}
	_ = stream.CloseSend()
	check(receive(stream) == "one two three", "up")

	stream = open(ctx, conn, "Both")
	for _, word := range []string{"one", "two", "three"} {
		send(stream, word)
		check(receive(stream) == word, "both "+word)
	}
	_ = stream.CloseSend()
	check(errors.Is(stream.RecvMsg(new(text)), io.EOF), "both ends")

	// Many at a time on one connection.
	done := make(chan error)
	err = nil
	for number := range 100 {
		go func() {
			value := fmt.Sprint(number)
			answer, err := ask(ctx, value)
			if err == nil && answer != value {
				err = fmt.Errorf("%s for %s", answer, value)
			}
			done <- err
		}()
	}
	for range 100 {
		err = errors.Join(err, <-done)
	}
	check(err == nil, "side by side", err)
	fmt.Println("all is well")
}

func main() {
	if os.Args[1] == "server" {
		serve()
	} else {
		call(os.Args[2])
	}
}
