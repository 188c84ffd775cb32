//! Kafka: one row per request.

use crate::table;

table! {
    /// Kafka requests: one row per request and its response, or per half where the other is missing.
    call "kafka", KafkaRow, KafkaBlock, sort ["dst_namespace", "dst_workload", "ts"],
    view {
        operation: "api",
        resource: "coalesce(topic, \"group\")",
        summary: "concat_ws(' ', coalesce(api, '?'), topic, \"group\")",
        status: "error_name",
        status_code: "error_code",
        version: "CAST(api_version AS VARCHAR)",
        excluded: "false",
    } {
        /// PRODUCE, FETCH, METADATA, ...; the number of an API that has no name.
        api: Text = 1001 [otel = "messaging.operation.name", kfl = "kafka_api_key_name"],
        /// Version of the request.
        api_version: Int32 = 1002 [wireshark = "kafka.api_version"],
        /// Correlation id.
        correlation_id: Int32 = 1003 [wireshark = "kafka.correlation_id"],
        /// Client id.
        client_id: Text = 1004 [otel = "messaging.client.id", kfl = "kafka_client_id", wireshark = "kafka.client_id"],
        /// Consumer group.
        group: Text = 1005 [otel = "messaging.consumer.group.name", wireshark = "kafka.consumer_group"],
        /// First topic; its id where the version has no names.
        topic: Text = 1006 [otel = "messaging.destination.name", kfl = "kafka_request_summary", wireshark = "kafka.topic_name"],
        /// First partition.
        partition: Int32 = 1007 [otel = "messaging.destination.partition.id", wireshark = "kafka.partition_id"],
        /// Offset in that partition: of a fetch where it begins, of a produce where the broker put it, of a commit what is committed.
        offset: Int64 = 1008 [otel = "messaging.kafka.offset", wireshark = "kafka.offset"],
        /// Records produced or fetched, of all partitions; NULL where compressed in the format before Kafka 0.11.
        records: Int64 = 1009 [otel = "messaging.batch.message_count"],
        /// Acknowledgements a produce waits for: -1 of all replicas, 0 none, 1 of the leader.
        acks: Int32 = 1010 [wireshark = "kafka.required_acks"],
        /// How long the broker held the response back for a quota.
        throttle_ms: Int32 = 1011 [unit = "ms", wireshark = "kafka.throttle_time"],
        /// Code of the first error in the response, its topics and its partitions; 0 for none, NULL where the response is not read.
        error_code: Int32 = 1012 [wireshark = "kafka.error"],
        /// Its name: NONE, NOT_LEADER_OR_FOLLOWER, ...
        error_name: Text = 1013,
        /// Number of the API.
        api_key: Int32 = 1014 [kfl = "kafka_api_key", wireshark = "kafka.api_key"],
    }
}
