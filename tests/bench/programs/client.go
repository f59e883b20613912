// The jobs with amqp091-go:  client URL JOB COUNT SIZE [JOB COUNT SIZE ...]
// Prints a line of JSON for each, as the other programs do.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const window = 1000

var wall time.Time
var used float64

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "client.go:", err)
		os.Exit(1)
	}
}

func processor() float64 {
	var u syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)*1e-6
}

func message(body []byte) amqp.Publishing {
	return amqp.Publishing{ContentType: "application/json", ContentEncoding: "utf-8", DeliveryMode: 2,
		CorrelationId: "4cc0b8c2-0000-4000-8000-000000000000",
		Headers:       amqp.Table{"lang": "py", "task": "proj.tasks.add"}, Body: body}
}

func start() { wall, used = time.Now(), processor() }

func take(channel *amqp.Channel, queue string, count int, acks bool) {
	messages, err := channel.Consume(queue, "tag", !acks, false, false, false, nil)
	check(err)
	for number := 0; number < count; number++ {
		one := <-messages
		if acks {
			check(one.Ack(false))
		}
	}
}

func publish(channel *amqp.Channel, key string, count int, body []byte) {
	for number := 0; number < count; number++ {
		check(channel.PublishWithContext(context.Background(), "", key, false, false, message(body)))
	}
}

// By notifications: a deferred confirmation of older versions can miss a confirm that comes at once.
func confirmed(channel *amqp.Channel, count int, body []byte, most int) {
	confirms := channel.NotifyPublish(make(chan amqp.Confirmation, most))
	waiting := 0
	for number := 0; number < count; number++ {
		publish(channel, "sink", 1, body)
		if waiting++; waiting == most {
			<-confirms
			waiting--
		}
	}
	for ; waiting > 0; waiting-- {
		<-confirms
	}
}

func requests(channel *amqp.Channel, replies <-chan amqp.Delivery, count int, body []byte) {
	for number := 0; number < count; number++ {
		request := message(body)
		request.ReplyTo = "amq.rabbitmq.reply-to"
		request.CorrelationId += "." + strconv.Itoa(number)
		check(channel.PublishWithContext(context.Background(), "", "echo", false, false, request))
		<-replies
	}
}

func run(channel *amqp.Channel, job string, count int, size int) bool {
	body := bytes.Repeat([]byte("x"), size)
	queue := fmt.Sprintf("replay-%d-%d-2", count, size)
	switch job {
	case "consume", "ack", "large":
		start()
		take(channel, queue, count, job == "ack")
	case "publish":
		start()
		publish(channel, "sink", count, body)
	case "confirm", "window":
		check(channel.Confirm(false))
		most := 1
		if job == "window" {
			most = window
		}
		start()
		confirmed(channel, count, body, most)
	case "rpc":
		replies, err := channel.Consume("amq.rabbitmq.reply-to", "tag", true, false, false, false, nil)
		check(err)
		start()
		requests(channel, replies, count, body)
	default:
		return false
	}
	return true
}

func main() {
	for at := 2; at+2 < len(os.Args); at += 3 {
		count, _ := strconv.Atoi(os.Args[at+1])
		size, _ := strconv.Atoi(os.Args[at+2])
		connection, err := amqp.DialConfig(os.Args[1], amqp.Config{Heartbeat: 0})
		check(err)
		channel, err := connection.Channel()
		check(err)
		done := run(channel, os.Args[at], count, size)
		seconds, spent := time.Since(wall).Seconds(), processor()-used
		connection.Close()
		fmt.Printf("{\"client\": \"amqp091-go\", \"version\": \"\", \"job\": %q, \"count\": %d, \"size\": %d, ", os.Args[at], count, size)
		if done {
			fmt.Printf("\"seconds\": %.9f, \"processor\": %.9f}\n", seconds, spent)
		} else {
			fmt.Println("\"cannot\": true}")
		}
	}
}
