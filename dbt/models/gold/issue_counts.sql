select
  issue,
  severity,
  subject,
  count(*) as count_issues,
  max(noted_at) as last_noted_at
from {{ ref('issue_log') }}
group by issue, severity, subject
