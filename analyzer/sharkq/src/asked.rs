//! What a question is about. In: a plan. Out: the stretch its conditions leave of the recording, whether plaintext of TLS
//! matters to it or is what it asks for, and whether it asks for names, for the coverage that stands under its answer. Where a condition is not understood the
//! stretch is wider, never narrower.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ScalarValue, TableReference};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, LogicalPlan, Operator, TableScan};
use shark_schema::tables::TABLES;

use crate::times::Stretch;

/// What a question is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Asked {
    /// The time.
    pub stretch: Stretch,
    /// It is about calls: some may have been made inside of TLS.
    pub calls: bool,
    /// It is about those that were made inside of TLS.
    pub tls: bool,
    /// It asks who an endpoint was: a pod, a workload, a process.
    pub names: bool,
    /// It chooses by what Kubernetes calls an endpoint, or by its labels: without anybody who told of pods
    /// it finds nothing.
    pub objects: bool,
    /// It chooses by labels.
    pub labels: bool,
}

impl Asked {
    /// Of all there is in a stretch of time.
    pub fn all(stretch: Stretch) -> Asked {
        Asked { stretch, calls: true, tls: true, names: true, ..Asked::default() }
    }

    /// The part of a stretch of time.
    pub fn within(self, stretch: Stretch) -> Asked {
        Asked { stretch: self.stretch.and(stretch), ..self }
    }

    fn and(self, other: Asked) -> Asked {
        Asked {
            stretch: self.stretch.hull(other.stretch),
            calls: self.calls || other.calls,
            tls: self.tls || other.tls,
            names: self.names || other.names,
            objects: self.objects || other.objects,
            labels: self.labels || other.labels,
        }
    }
}

/// What a plan asks about; `None` where it reads no rows that came from packets. The plan is an optimized
/// one: only there conditions are next to the tables.
pub fn about(plan: &LogicalPlan) -> Option<Asked> {
    below(plan, Stretch::default())
}

/// `above` is what conditions on the same rows said already.
fn below(plan: &LogicalPlan, above: Stretch) -> Option<Asked> {
    let here = match plan {
        LogicalPlan::TableScan(scan) => {
            let stretch = scan.filters.iter().map(of_condition).fold(above, Stretch::and);
            let tls = scan.filters.iter().any(wants_tls);
            let asked = Asked { stretch, names: wants_names(scan), ..Asked::default() };
            let asked = scan.filters.iter().fold(asked, Asked::chosen_by);
            return are_of_calls(&scan.table_name).map(|calls| Asked { calls, tls: calls && tls, ..asked });
        }
        LogicalPlan::Filter(filter) => above.and(of_condition(&filter.predicate)),
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Sort(_) => above,
        // Rows of anything else are not those of one table.
        _ => Stretch::default(),
    };
    let inputs = plan.inputs().into_iter().filter_map(|input| below(input, here));
    let asked = inputs.reduce(Asked::and)?;
    // What is only shown is not what was asked for.
    let chooses = !matches!(plan, LogicalPlan::Projection(_)) && plan.expressions().iter().any(wants_tls);
    let asked = Asked { tls: asked.tls || asked.calls && chooses, ..asked };
    Some(match plan {
        LogicalPlan::Filter(filter) => asked.chosen_by(&filter.predicate),
        _ => asked,
    })
}

/// Columns with the names and labels that Kubernetes gives to an endpoint.
const OBJECTS: [&str; 6] = ["namespace", "workload", "workload_kind", "pod", "service", LABELS];
const LABELS: &str = "labels";

impl Asked {
    /// With a condition that rows must fulfil.
    fn chosen_by(self, condition: &Expr) -> Asked {
        let columns = condition.column_refs();
        let names = || columns.iter().filter_map(|column| of_end(column.name()));
        let objects = names().any(|name| OBJECTS.contains(&name));
        Asked {
            names: self.names || objects,
            objects: self.objects || objects,
            labels: self.labels || names().any(|name| name == LABELS),
            ..self
        }
    }
}

/// The part of a column's name that both ends have in common.
fn of_end(column: &str) -> Option<&str> {
    ["src_", "dst_"].into_iter().find_map(|end| column.strip_prefix(end))
}

/// Whether it asks for what came from inside of TLS; what is denied, or need only be known, is not asked for.
fn wants_tls(condition: &Expr) -> bool {
    let mut found = false;
    let visited = condition.apply(|part| {
        found |= matches!(part, Expr::Column(column) if column.name == "tls");
        Ok(match part {
            Expr::Not(_) | Expr::IsNotTrue(_) | Expr::IsFalse(_) | Expr::IsNull(_) | Expr::IsNotNull(_) => {
                TreeNodeRecursion::Jump
            }
            _ => TreeNodeRecursion::Continue,
        })
    });
    visited.is_ok() && found
}

/// Columns of an end that say who it was.
const NAMES: [&str; 12] = [
    "namespace",
    "workload",
    "workload_kind",
    "pod",
    "pod_uid",
    "container",
    "zone",
    "labels",
    "process",
    "comm",
    "pid",
    "identity",
];

/// Whether any of the columns that are read, or asked about, is a name of an end.
fn wants_names(scan: &TableScan) -> bool {
    let is_name = |column: &str| of_end(column).is_some_and(|name| NAMES.contains(&name));
    let read = scan.projected_schema.fields().iter().any(|field| is_name(field.name()));
    let asked = || scan.filters.iter().flat_map(Expr::column_refs).any(|column| is_name(column.name()));
    read || asked()
}

/// Whether the rows of a table are of calls. Tables without packets behind them need no coverage, and `coverage` is its own.
fn are_of_calls(name: &TableReference) -> Option<bool> {
    let name = name.table();
    let plain = name.strip_suffix("_all").or(name.strip_suffix("_recorded")).unwrap_or(name);
    let table = TABLES.iter().find(|table| table.name == plain && table.column("flow_id").is_some());
    (name == "entries").then_some(true).or(table.map(|table| table.call.is_some()))
}

fn of_condition(condition: &Expr) -> Stretch {
    split_conjunction(condition).into_iter().map(of_part).fold(Stretch::default(), Stretch::and)
}

/// Columns that say when something began or ended.
const TIMES: [&str; 3] = ["ts", "end_ts", "rst_ts"];

fn of_part(part: &Expr) -> Stretch {
    match part {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            match (is_time(left), moment(right), is_time(right), moment(left)) {
                (true, Some(ns), ..) => of_comparison(*op, ns),
                (_, _, true, Some(ns)) => op.swap().map_or(Stretch::default(), |op| of_comparison(op, ns)),
                _ => Stretch::default(),
            }
        }
        Expr::Between(Between { expr, negated: false, low, high }) if is_time(expr) => {
            Stretch { from_ns: moment(low), to_ns: moment(high) }
        }
        _ => Stretch::default(),
    }
}

fn of_comparison(op: Operator, ns: i64) -> Stretch {
    match op {
        Operator::Gt | Operator::GtEq => Stretch { from_ns: Some(ns), to_ns: None },
        Operator::Lt | Operator::LtEq => Stretch { from_ns: None, to_ns: Some(ns) },
        Operator::Eq => Stretch { from_ns: Some(ns), to_ns: Some(ns) },
        _ => Stretch::default(),
    }
}

fn is_time(expr: &Expr) -> bool {
    let column = match expr {
        Expr::Cast(cast) => &cast.expr,
        other => other,
    };
    matches!(column, Expr::Column(column) if TIMES.contains(&column.name.as_str()))
}

fn moment(expr: &Expr) -> Option<i64> {
    let Expr::Literal(value, _) = expr else { return None };
    let nanoseconds =
        value.cast_to(&arrow::datatypes::DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, None));
    match nanoseconds {
        Ok(ScalarValue::TimestampNanosecond(ns, _)) if !value.data_type().is_integer() => ns,
        _ => None,
    }
}
