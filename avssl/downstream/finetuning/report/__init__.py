"""Report of a classifier as an HTML page and as JSON: headline, confusions, classes, worst clips."""

from avssl.downstream.finetuning.report.report import write_report as write_report
