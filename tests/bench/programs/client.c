/* The jobs with rabbitmq-c, called from C:  client URL JOB COUNT SIZE [JOB COUNT SIZE ...]
 * Prints a line of JSON for each, as the other programs do.  cc -O2 client.c -lrabbitmq */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/framing.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#endif

enum { WINDOW = 1000 };

static amqp_connection_state_t connection;
static double wall, processor;

static void check(int good, const char *what) {
    if (!good) {
        fprintf(stderr, "client.c: %s failed\n", what);
        exit(1);
    }
}

static double now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void start(void) {
    wall = now(CLOCK_MONOTONIC);
    processor = now(CLOCK_PROCESS_CPUTIME_ID);
}

static void stop(void) {
    wall = now(CLOCK_MONOTONIC) - wall;
    processor = now(CLOCK_PROCESS_CPUTIME_ID) - processor;
}

static void open_connection(const char *url) {
    struct amqp_connection_info to;
    char *copy = strdup(url);
    check(amqp_parse_url(copy, &to) == 0, "the url");
    connection = amqp_new_connection();
    amqp_socket_t *sock = amqp_tcp_socket_new(connection);
    check(amqp_socket_open(sock, to.host, to.port) == 0, "connect");
    amqp_rpc_reply_t reply =
        amqp_login(connection, to.vhost, 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, to.user, to.password);
    check(reply.reply_type == AMQP_RESPONSE_NORMAL, "login");
    check(amqp_channel_open(connection, 1) != NULL, "channel");
    free(copy);
}

static void close_connection(void) {
    amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(connection);
}

static void consume(const char *queue, int no_ack) {
    amqp_basic_consume(connection, 1, amqp_cstring_bytes(queue), amqp_cstring_bytes("tag"), 0, no_ack, 0,
                       amqp_empty_table);
    check(amqp_get_rpc_reply(connection).reply_type == AMQP_RESPONSE_NORMAL, "consume");
}

static void take(int acks) {
    amqp_envelope_t envelope;
    amqp_maybe_release_buffers(connection);
    check(amqp_consume_message(connection, &envelope, NULL, 0).reply_type == AMQP_RESPONSE_NORMAL, "a message");
    if (acks) amqp_basic_ack(connection, 1, envelope.delivery_tag, 0);
    amqp_destroy_envelope(&envelope);
}

/* The tag up to which the broker has confirmed. */
static uint64_t take_confirm(void) {
    amqp_frame_t frame;
    amqp_maybe_release_buffers(connection);
    do check(amqp_simple_wait_frame(connection, &frame) == AMQP_STATUS_OK, "a confirm");
    while (frame.frame_type != AMQP_FRAME_METHOD || frame.payload.method.id != AMQP_BASIC_ACK_METHOD);
    return ((amqp_basic_ack_t *)frame.payload.method.decoded)->delivery_tag;
}

static void publish(const char *key, long number, amqp_bytes_t body, int is_request) {
    char correlation_id[64];
    amqp_table_entry_t headers[2];
    amqp_basic_properties_t p;
    memset(&p, 0, sizeof p);
    snprintf(correlation_id, sizeof correlation_id, "4cc0b8c2-0000-4000-8000-000000000000");
    p._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_CONTENT_ENCODING_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
               AMQP_BASIC_CORRELATION_ID_FLAG | AMQP_BASIC_HEADERS_FLAG;
    if (is_request) {
        p._flags |= AMQP_BASIC_REPLY_TO_FLAG;
        p.reply_to = amqp_cstring_bytes("amq.rabbitmq.reply-to");
        snprintf(correlation_id, sizeof correlation_id, "4cc0b8c2-0000-4000-8000-000000000000.%ld", number);
    }
    p.content_type = amqp_cstring_bytes("application/json");
    p.content_encoding = amqp_cstring_bytes("utf-8");
    p.delivery_mode = 2;
    p.correlation_id = amqp_cstring_bytes(correlation_id);
    headers[0].key = amqp_cstring_bytes("lang");
    headers[0].value.kind = headers[1].value.kind = AMQP_FIELD_KIND_UTF8;
    headers[0].value.value.bytes = amqp_cstring_bytes("py");
    headers[1].key = amqp_cstring_bytes("task");
    headers[1].value.value.bytes = amqp_cstring_bytes("proj.tasks.add");
    p.headers.num_entries = 2;
    p.headers.entries = headers;
    check(amqp_basic_publish(connection, 1, amqp_empty_bytes, amqp_cstring_bytes(key), 0, 0, &p, body) == 0,
          "publish");
}

static int run(const char *job, long count, int size) {
    char queue[64];
    amqp_bytes_t body = amqp_bytes_malloc(size);
    memset(body.bytes, 'x', size);
    snprintf(queue, sizeof queue, "replay-%ld-%d-2", count, size);
    if (!strcmp(job, "consume") || !strcmp(job, "ack") || !strcmp(job, "large")) {
        int acks = !strcmp(job, "ack");
        start();
        consume(queue, !acks);
        for (long i = 0; i < count; i++) take(acks);
    } else if (!strcmp(job, "publish")) {
        start();
        for (long i = 0; i < count; i++) publish("sink", i, body, 0);
    } else if (!strcmp(job, "confirm") || !strcmp(job, "window")) {
        uint64_t confirmed = 0, most = strcmp(job, "window") ? 1 : WINDOW;
        amqp_confirm_select(connection, 1);
        start();
        for (long i = 0; i < count; i++) {
            publish("sink", i, body, 0);
            while (i + 1 - confirmed >= most) confirmed = take_confirm();
        }
        while (confirmed < (uint64_t)count) confirmed = take_confirm();
    } else if (!strcmp(job, "rpc")) {
        consume("amq.rabbitmq.reply-to", 1);
        start();
        for (long i = 0; i < count; i++) {
            publish("echo", i, body, 1);
            take(0);
        }
    } else {
        return 0;
    }
    stop();
    amqp_bytes_free(body);
    return 1;
}

int main(int argc, char **argv) {
    for (int at = 2; at + 2 < argc; at += 3) {
        long count = atol(argv[at + 1]);
        int size = atoi(argv[at + 2]);
        open_connection(argv[1]);
        int done = run(argv[at], count, size);
        close_connection();
        printf("{\"client\": \"rabbitmq-c\", \"version\": \"%s\", \"job\": \"%s\", \"count\": %ld, \"size\": %d, ",
               amqp_version(), argv[at], count, size);
        if (done) printf("\"seconds\": %.9f, \"processor\": %.9f}\n", wall, processor);
        else printf("\"cannot\": true}\n");
        fflush(stdout);
    }
    return 0;
}
