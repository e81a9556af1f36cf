-- Support tickets by what they are about: how many are open, and how long a solved one took.
select
  coalesce(issue_category, 'unknown') as issue_category,
  count(*) as count_tickets,
  sum(case when lower(status) in ('open', 'pending') then 1 else 0 end) as count_open,
  round(avg(resolution_time_hours), 1) as mean_resolution_hours
from {{ ref('support_ticket') }}
group by coalesce(issue_category, 'unknown')
order by count_tickets desc, issue_category asc
