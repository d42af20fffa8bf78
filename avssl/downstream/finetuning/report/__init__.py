"""A classifier's results as a page to look at, and as numbers: headline, confusions, classes, worst clips."""

from avssl.downstream.finetuning.report.report import write_report as write_report
