//! AMQP 0-9-1, as RabbitMQ speaks it: one row per method.

use crate::table;

table! {
    /// AMQP 0-9-1: one row per method and its answer on the same channel, or per half where the other is missing; a message that
    /// is published, delivered, returned or acknowledged is a row of its own, with its content.
    call "amqp", AmqpRow, AmqpBlock, sort ["dst_namespace", "dst_workload", "ts"],
    view {
        operation: "method",
        resource: "coalesce(exchange, queue, routing_key)",
        summary: "concat_ws(' ', coalesce(method, '?'), exchange, routing_key, queue)",
        status: "CAST(reply_code AS VARCHAR)",
        status_code: "reply_code",
        version: "'0-9-1'",
        excluded: "false",
    } {
        /// basic.publish, queue.declare, ...
        method: Text = 1001 [kfl = "amqp_method", wireshark = "amqp.method.method"],
        /// Channel; 0 is the connection's own.
        channel: Int32 = 1002 [wireshark = "amqp.channel"],
        /// Virtual host the connection was opened for; NULL where that was not seen.
        vhost: Text = 1003 [wireshark = "amqp.method.arguments.virtual_host"],
        /// Exchange; NULL for the default one. Of a binding of exchanges, the destination.
        exchange: Text = 1004 [otel = "messaging.destination.name", wireshark = "amqp.method.arguments.exchange"],
        /// Routing key.
        routing_key: Text = 1005 [otel = "messaging.rabbitmq.destination.routing_key", wireshark = "amqp.method.arguments.routing_key"],
        /// Queue; the server's name for one that was declared without.
        queue: Text = 1006 [otel = "messaging.destination.name", wireshark = "amqp.method.arguments.queue"],
        /// Number of the delivery on its channel.
        delivery_tag: Int64 = 1007 [otel = "messaging.rabbitmq.message.delivery_tag", wireshark = "amqp.method.arguments.delivery_tag"],
        /// It was delivered before.
        redelivered: Bool = 1008 [wireshark = "amqp.method.arguments.redelivered"],
        /// Code of a close or a return: 200, 312, 404, 406, ...
        reply_code: Int32 = 1009 [wireshark = "amqp.method.arguments.reply_code"],
        /// Text of a close or a return.
        reply_text: Text = 1010 [wireshark = "amqp.method.arguments.reply_text"],
        /// Consumer tag.
        consumer_tag: Text = 1011 [wireshark = "amqp.method.arguments.consumer_tag"],
        /// Bytes of the content's body, as its header announces.
        body_len: Int64 = 1012 [unit = "B", otel = "messaging.message.body.size", wireshark = "amqp.header.body-size"],
        /// Media type of the content.
        content_type: Text = 1013 [wireshark = "amqp.method.properties.content_type"],
    }
}
