//! SQL databases and MongoDB in one shape: one row per command.

use crate::table;

table! {
    /// Commands of PostgreSQL, MySQL and MongoDB: one row per command and its answer, or per half where the other is missing.
    /// A login is one command, and passwords are never kept.
    call "db", DbRow, DbBlock, sort ["dst_namespace", "dst_workload", "ts"],
    view {
        operation: "coalesce(operation, command)",
        resource: "coalesce(collection, database)",
        summary: "concat_ws(' ', coalesce(operation, command, '?'), coalesce(collection, database))",
        status: "coalesce(error_code, CASE WHEN is_error = false THEN 'OK' END)",
        status_code: "CASE WHEN system <> 'postgresql' THEN TRY_CAST(error_code AS INT) END",
        version: "CAST(NULL AS VARCHAR)",
        excluded: "false",
    } {
        /// postgresql, mysql or mongodb.
        system: Text = 1001 [otel = "db.system.name"],
        /// Database; NULL where the login was not seen and the command does not name it.
        database: Text = 1002 [otel = "db.namespace", kfl = "postgresql_database"],
        /// Login name.
        user: Text = 1003 [kfl = "postgresql_user"],
        /// Command of the protocol: Query, Execute, Startup; COM_QUERY; OP_MSG.
        command: Text = 1004 [wireshark = "mysql.command", kfl = "mysql_command"],
        /// SELECT, INSERT, find, ...
        operation: Text = 1005 [otel = "db.operation.name", kfl = "postgresql_command"],
        /// Main table or collection.
        collection: Text = 1006 [otel = "db.collection.name", kfl = "mongodb_collection"],
        /// Text of the statement, cut at 4 KiB; that of a prepared one where its preparation was seen.
        statement: Text = 1007 [otel = "db.query.text", wireshark = "pgsql.query", kfl = "postgresql_query"],
        /// The statement with `?` for its literals, without comments, white space collapsed.
        fingerprint: Text = 1008 [otel = "db.query.summary"],
        /// Rows returned, or else affected.
        rows: Int64 = 1009 [unit = "rows", otel = "db.response.returned_rows"],
        /// SQLSTATE (PostgreSQL) or the server's number, as text.
        error_code: Text = 1010 [otel = "db.response.status_code", wireshark = "pgsql.code"],
        /// What the server says of the error.
        error_message: Text = 1011 [wireshark = "pgsql.message", kfl = "postgresql_error_message"],
        /// Number of a prepared statement (MySQL).
        statement_id: Int64 = 1012 [wireshark = "mysql.stmt_id", kfl = "mysql_statement_id"],
        /// SQLSTATE beside the server's own number (MySQL).
        sqlstate: Text = 1013 [wireshark = "mysql.sqlstate"],
        /// Name of the error code (MongoDB).
        error_code_name: Text = 1014 [kfl = "mongodb_error_code_name"],
    }
}
