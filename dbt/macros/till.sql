{#-
  Lines of receipts, whatever shape they came in: one row per line, typed, with `reasons` ('[]' where it can be taken)
  and, where it cannot, `raw`. A feed of kind `lines` is flat (one record is one line) or nested (one JSON document is a
  receipt with an array of lines, perhaps a refund and a cancelled item).

  `line` counts from 1; 0 is the refund on a receipt, -1 a receipt of which no lines can be told. `record` is the hash
  of a nested receipt's text. Quantities and amounts are never negative: `kind` (sale, cancelled, refund) says what they do.
-#}
{% macro till_lines(entity_name) %}
{%- set entity = c360.entity(entity_name) -%}
{%- set feeds = declared_feeds(entity_name) -%}
with

ledger as (
  select * from {{ source('staging', 'object_ledger') }}
),

replays as (
  {{- replays() }}
),
{% for feed in feeds %}
{%- if feed.feed.get('lines') %}
{{ nested_lines(feed) }}
{%- else %}
{{ flat_lines(feed) }}
{%- endif %}

{{ feed.name }}_parsed as (
  {{- parsed_lines(feed) }}
),

{{ feed.name }}_timed as (
  {{- timed_rows(feed) }}
),

{{ feed.name }}_typed as (
  {{- typed_lines(feed) }}
),

{{ feed.name }}_checked as (
  {{- checked_lines(entity, feed) }}
),
{%- if feed.feed.get('lines') %}
{{ lines_as_they_came(entity, feed) }}
{%- endif %}
{% endfor %}
final as (
  {%- for feed in feeds %}
  {%- set nested = feed.feed.get('lines') %}
  select
    _feed, _key, _etag, _row, _loaded_batch, _batch, _last_modified, known_at,
    record,
    {{ entity.key | join(', ') }},
    {{ entity.attributes | join(', ') }},
    content,
    reasons,
    case when reasons <> '[]' then {{ 'raw' if nested else raw_record(feed) }} end as raw
  from {{ feed.name }}_{{ 'dated' if nested else 'checked' }}
  {{ 'union all' if not loop.last }}
  {%- endfor %}
)

select * from final
{% endmacro %}

{#- ------------------------------------------------------------------------------------------------ one record, one line -#}

{#-
  `<feed>_lines`. The line number counts the rows of the transaction in its load of the object, refused ones included; records
  that a replay could read after all are counted after those that were there. One that was landed corrected says its own.
-#}
{% macro flat_lines(feed) %}
{%- set of_transaction = [] -%}
{%- for column in ['store_id', 'transaction_id'] -%}
  {%- do of_transaction.append(mapped_text(feed, column, 's.' ~ field_of(feed, column) if field_of(feed, column))) -%}
{%- endfor -%}
{%- set transaction = of_transaction | join(', ') -%}
{%- set time = feed.feed.event_time.get('column') %}
{{ feed.name }}_objects as (
  select s._key, s._etag, s._batch
  from {{ feed.relation }} as s
  {{- replay_join(feed) }}
  where coalesce(replays.batch, s._batch) in (select batch from {{ new_batches() }})
  group by s._key, s._etag, s._batch
),

-- A row per load of records that a replay could read after all, however many they are.
{{ feed.name }}_supplements as (
  select distinct batch, _key, _etag
  from {{ source('staging', 'quarantine_decisions') }}
  where decision = 'read' and feed = '{{ feed.name }}'
),

{{ feed.name }}_supplemented as (
  select
    later._key, later._etag, later._batch,
    {{ of_transaction[0] }} as store_id, {{ of_transaction[1] }} as transaction_id,
    count(*) as count_before
  from {{ feed.name }}_objects as later
  inner join {{ feed.name }}_supplements as decisions
    on later._batch = decisions.batch and later._key = decisions._key and later._etag = decisions._etag
  inner join {{ feed.relation }} as s
    on later._key = s._key and later._etag = s._etag and s._batch < later._batch
  -- Loads of the same bytes that were replaced since had numbers of their own.
  inner join ledger
    on ledger.feed = '{{ feed.name }}' and s._key = ledger.key and s._etag = ledger.etag and s._batch = ledger.batch
    and ledger.status <> 'superseded'
  group by later._key, later._etag, later._batch, {{ transaction }}
),

{{ feed.name }}_numbered as (
  select
    s.*,
    row_number() over (partition by s._key, s._etag, s._batch, {{ transaction }} order by s._row) as ordinal
  from {{ feed.relation }} as s
  inner join {{ feed.name }}_objects as objects
    on s._key = objects._key and s._etag = objects._etag and s._batch = objects._batch
),

{{ feed.name }}_lines as (
  select
    {{- record_lineage(feed) }}
    coalesce({{ fixed_number('_fixed_line') }}, cast(s.ordinal + coalesce(supplemented.count_before, 0) as int)) as line,
    'item' as part,
    cast(null as varchar) as record,
    cast(null as varchar) as trouble,
    {%- for column in till_columns() %}
    {{ mapped_text(feed, column, 's.' ~ field_of(feed, column) if field_of(feed, column)) }} as {{ stated_name(column) }},
    {%- endfor %}
    {{ trimmed('s.' ~ time) if time else 'cast(null as varchar)' }} as stated_time,
    {{- as_received(feed) }}
  from {{ feed.name }}_numbered as s
  {{- record_joins(feed) }}
  left join {{ feed.name }}_supplemented as supplemented
    on s._key = supplemented._key and s._etag = supplemented._etag and s._batch = supplemented._batch
    and {{ of_transaction[0] }} = supplemented.store_id and {{ of_transaction[1] }} = supplemented.transaction_id
  where coalesce(replays.batch, s._batch) in (select batch from {{ new_batches() }})
),
{% endmacro %}

{#- ------------------------------------------------------------------------------------------- one document, many lines -#}

{#- `<feed>_lines`: the lines of each receipt, its refund, and the receipt itself where it has neither. -#}
{% macro nested_lines(feed) %}
{%- set array = feed.feed['lines'] -%}
{%- set time = feed.feed.event_time.get('column') -%}
{%- set of_receipt = ['store_id', 'city', 'transaction_id', 'customer_id', 'currency', 'payment_method'] -%}
{%- set of_line = ['product_id', 'unit_price', 'quantity', 'cancelled'] -%}
{%- set of_refund = ['refund_transaction_id', 'refund_amount', 'refund_method', 'refund_time'] -%}
{%- set of_cancel = ['cancelled_transaction_id', 'cancelled_product_id'] -%}
{%- set refund = (field_of(feed, 'refund_amount') or '').split('.')[0] -%}
{%- set cancel = (field_of(feed, 'cancelled_product_id') or '').split('.')[0] -%}
{%- set objects = [refund, cancel] | reject('equalto', '') | list -%}
{%- set line_fields = [] -%}
{%- for column in of_line if field_of(feed, column) %}{% do line_fields.append(field_of(feed, column).split('.')[-1]) %}{% endfor -%}
{%- set fields = [time] if time else [] -%}
{%- for column in of_receipt if field_of(feed, column) %}{% do fields.append(field_of(feed, column)) %}{% endfor -%}
{%- set lineage = ['_feed', '_key', '_etag', '_row', '_loaded_batch', '_batch', 'known_at', '_last_modified', 'object_time'] -%}
{%- set shared = lineage + ['record', 'raw'] + of_receipt %}
{{ feed.name }}_documents as (
  select
    {{- record_lineage(feed) }}
    {{ sha256_text('s.payload') }} as record,
    s.payload as raw,
    {{ json_document('s.payload', fields + objects, array, line_fields) }} as document
  from {{ feed.relation }} as s
  {{- record_joins(feed) }}
  where coalesce(replays.batch, s._batch) in (select batch from {{ new_batches() }})
),

{{ feed.name }}_receipts as (
  select
    {{ (lineage + ['record', 'raw', 'document']) | join(', ') }},
    {{ trimmed(json_field('document', time)) if time else 'cast(null as varchar)' }} as receipt_time,
    {%- for column in of_receipt %}
    {{ mapped_text(feed, column, json_field('document', field_of(feed, column)) if field_of(feed, column)) }} as {{ column }},
    {%- endfor %}
    {%- for column in of_refund + of_cancel %}
    {{ mapped_text(feed, column, json_nested_field('document', 'raw', field_of(feed, column)) if field_of(feed, column)) }} as {{ column }},
    {%- endfor %}
    {{ json_is_given('document', 'raw', array) }} as has_items,
    {{ json_is_array('document', array) }} as has_lines,
    {{ json_is_given('document', 'raw', refund) if refund else 'false' }} as has_refund,
    {{ json_is_object('document', 'raw', refund) if refund else 'false' }} as has_sound_refund,
    {{ json_is_given('document', 'raw', cancel) if cancel else 'false' }} as has_cancel
  from {{ feed.name }}_documents
),

{{ feed.name }}_exploded as (
  {{ json_exploded(
    feed.name ~ '_receipts',
    shared + ['receipt_time', 'has_cancel', 'cancelled_transaction_id', 'cancelled_product_id'], 'document', array
  ) }}
),

{{ feed.name }}_items as (
  select
    {{ shared | join(', ') }}, line, receipt_time, has_cancel, cancelled_transaction_id, cancelled_product_id,
    {%- for column in of_line %}
    {{ mapped_text(feed, column, json_field('item', field_of(feed, column).split('.')[-1]) if field_of(feed, column)) }} as {{ column }}
    {{- ',' if not loop.last }}
    {%- endfor %}
  from {{ feed.name }}_exploded
),

-- What was cancelled afterwards: the line of that product that is marked already, else the last one.
{{ feed.name }}_cancelled as (
  select
    _key, _etag, _loaded_batch, _row,
    max(case
      when product_id = cancelled_product_id and coalesce(cancelled_transaction_id, transaction_id) = transaction_id
      then line
    end) as last_line,
    max(case
      when product_id = cancelled_product_id and coalesce({{ parsed('cancelled', 'boolean') }}, false) then line
    end) as marked_line
  from {{ feed.name }}_items
  where has_cancel
  group by _key, _etag, _loaded_batch, _row
),

{{ feed.name }}_lines as (
  select
    {{ 'items.' ~ (shared | join(', items.')) }},
    items.line,
    'item' as part,
    case when items.has_cancel and cancelled.last_line is null then 'unknown_cancelled_item' end as trouble,
    items.product_id, items.unit_price as stated_unit_price, items.quantity as stated_quantity,
    case
      when items.line = coalesce(cancelled.marked_line, cancelled.last_line) then 'true' else items.cancelled
    end as stated_cancelled,
    cast(null as varchar) as refund_transaction_id, cast(null as varchar) as stated_refund_amount,
    items.receipt_time as stated_time
  from {{ feed.name }}_items as items
  left join {{ feed.name }}_cancelled as cancelled
    on items.has_cancel and {{ agree('items', 'cancelled', ['_key', '_etag', '_loaded_batch', '_row']) }}

  union all

  select
    {{ lineage | join(', ') }}, record, raw, store_id, city, transaction_id, customer_id, currency,
    coalesce(refund_method, payment_method) as payment_method,
    0 as line,
    'refund' as part,
    case when not has_sound_refund then 'bad_refund' end as trouble,
    null as product_id, null as stated_unit_price, null as stated_quantity, null as stated_cancelled,
    refund_transaction_id, refund_amount as stated_refund_amount,
    coalesce(refund_time, receipt_time) as stated_time
  from {{ feed.name }}_receipts
  where has_refund

  union all

  select
    {{ shared | join(', ') }},
    -1 as line,
    'receipt' as part,
    case
      when has_items and not has_lines then 'bad_{{ array }}'
      when has_cancel then 'unknown_cancelled_item'
      else 'no_{{ array }}'
    end as trouble,
    null as product_id, null as stated_unit_price, null as stated_quantity, null as stated_cancelled,
    null as refund_transaction_id, null as stated_refund_amount,
    receipt_time as stated_time
  from {{ feed.name }}_receipts
  where (has_items and not has_lines)
    or ((has_cancel or not has_refund) and {{ json_count('document', array) }} = 0)
),
{% endmacro %}

{#-
  `<feed>_dated`: a receipt is tried again as a whole, and of its lines those that had been taken before stay as they came; with the
  others it is the last try at which they had not. So a rebuild says no later than the runs before it when a line was known.
-#}
{% macro lines_as_they_came(entity, feed) %}
{%- set place = ['_key', '_etag', '_row', '_loaded_batch', 'line'] %}
{{ feed.name }}_tried as (
  select
    {{ 'checked.' ~ (place | join(', checked.')) }},
    max(decisions.batch) as batch,
    max(decisions.decided_at) as decided_at
  from {{ feed.name }}_checked as checked
  inner join {{ source('staging', 'quarantine_decisions') }} as decisions
    on decisions.feed = '{{ feed.name }}'
    and decisions.decision = 'replay'
    and {{ agree('checked', 'decisions', ['_key', '_etag', '_row']) }}
    and checked._loaded_batch < decisions.batch
    and position(',' || cast(checked.line as varchar) || ',' in ',' || coalesce(decisions.lines_taken, '') || ',') = 0
  where checked._batch <> checked._loaded_batch
  group by {{ 'checked.' ~ (place | join(', checked.')) }}
),

{{ feed.name }}_dated as (
  select
    checked._feed, checked._key, checked._etag, checked._row, checked._loaded_batch,
    coalesce(tried.batch, checked._loaded_batch) as _batch,
    checked._last_modified,
    coalesce(tried.decided_at, ledger.loaded_at) as known_at,
    checked.record,
    checked.line,
    {%- for column in entity.key | reject('equalto', 'line') | list + entity.attributes %}
    checked.{{ column }},
    {%- endfor %}
    checked.content, checked.reasons, checked.raw
  from {{ feed.name }}_checked as checked
  left join {{ feed.name }}_tried as tried on {{ agree('checked', 'tried', place) }}
  left join ledger
    on ledger.feed = '{{ feed.name }}'
    and checked._key = ledger.key
    and checked._etag = ledger.etag
    and checked._loaded_batch = ledger.batch
),
{% endmacro %}

{#- ------------------------------------------------------------------------------------------------------ both shapes -#}

{#- Columns of a line as a feed may state them. -#}
{% macro till_columns() %}
  {%- do return(['store_id', 'city', 'transaction_id', 'customer_id', 'currency', 'payment_method', 'product_id',
    'unit_price', 'quantity', 'cancelled', 'refund_transaction_id', 'refund_amount']) -%}
{% endmacro %}

{% macro stated_name(column) -%}
  {{ 'stated_' ~ column if column in ['unit_price', 'quantity', 'cancelled', 'refund_amount'] else column }}
{%- endmacro %}

{#- Beside the text: numbers, and the wall clock of its time. -#}
{% macro parsed_lines(feed) %}
  select
    *,
    {{ parsed_wall_clock('stated_time') }} as wall_clock,
    {{ parsed_offset('stated_time') }} as stated_offset,
    {{ try_typed('stated_unit_price', 'decimal(18,4)') }} as price,
    {{ try_typed('stated_quantity', 'decimal(18,4)') }} as units,
    {{ try_typed('stated_refund_amount', 'decimal(18,4)') }} as refunded,
    {{ parsed("coalesce(stated_cancelled, 'false')", 'boolean') }} as is_cancelled,
    {%- if feed.feed.get('returns') %}
    coalesce({{ matches('transaction_id', feed.feed.returns) }}, false) as is_return,
    {%- else %}
    false as is_return,
    {%- endif %}
    {%- if feed.feed.get('adjustments') %}
    coalesce({{ matches('transaction_id', feed.feed.adjustments) }}, false) as is_adjustment
    {%- else %}
    false as is_adjustment
    {%- endif %}
  from {{ feed.name }}_lines
{% endmacro %}

{#- A price or refund from 10^11 up is refused: JSON keeps fewer digits exactly than its amount could need. -#}
{% macro largest_price() %}100000000000{% endmacro %}
{% macro largest_amount() %}100000000000000{% endmacro %}

{#- The line as it counts: what it did, how many, for how much, when. -#}
{% macro typed_lines(feed) %}
  {%- set zone = feed.feed.event_time.get('zone', 'UTC') -%}
  {#- Wider first: a product of two decimals of 18 digits may have no room in its type. -#}
  {%- set product = 'cast(abs(units) as decimal(34, 4)) * abs(price)' %}
  select
    *,
    case when part = 'refund' or is_return then 'refund' when is_cancelled then 'cancelled' else 'sale' end as kind,
    abs(units) as quantity,
    price as unit_price,
    case
      when part = 'refund' then refunded
      when {{ product }} < {{ largest_amount() }} then cast({{ product }} as decimal(18, 4))
    end as amount,
    cast(event_time as {{ timestamp_type() }}) as sold_at,
    cast({{ 'event_time' if zone == 'UTC' else to_local('event_time', zone) }} as date) as sales_date,
    refund_transaction_id as refund_of
  from {{ feed.name }}_timed
{% endmacro %}

{% macro checked_lines(entity, feed) %}
  {%- set is_item = "part = 'item'" -%}
  {%- set is_refund = "part = 'refund' and trouble is null" -%}
  {%- set conditions = {
    'missing_key:store_id': 'store_id is null',
    'missing_key:transaction_id': 'transaction_id is null',
    'missing_event_time': 'object_time is null and stated_time is null',
    'bad_event_time': 'object_time is null and stated_time is not null and wall_clock is null',
    'unclear_event_time': 'is_unclear_time',
    'bad_currency': 'currency is null or not ' ~ matches('currency', '[A-Z]{3}'),
    'adjustment': 'is_adjustment',
    'missing_product_id': is_item ~ ' and product_id is null',
    'missing_price': is_item ~ ' and stated_unit_price is null',
    'bad_price': is_item ~ ' and stated_unit_price is not null and (price is null or price >= ' ~ largest_price() ~ ')',
    'price_not_positive': is_item ~ ' and price <= 0',
    'missing_quantity': is_item ~ ' and stated_quantity is null',
    'bad_quantity': is_item ~ ' and stated_quantity is not null and units is null',
    'quantity_not_positive': is_item ~ ' and not is_return and units <= 0',
    'quantity_not_negative': is_item ~ ' and is_return and units >= 0',
    'amount_too_large': is_item ~ ' and price is not null and units is not null and amount is null',
    'bad_cancelled': is_item ~ ' and is_cancelled is null',
    'missing_refund_amount': is_refund ~ ' and stated_refund_amount is null',
    'bad_refund_amount': is_refund ~ ' and stated_refund_amount is not null and (refunded is null or refunded >= ' ~ largest_price() ~ ')',
    'refund_not_positive': is_refund ~ ' and refunded <= 0',
  } -%}
  {%- if feed.feed.get('lines') -%}
    {%- for code in ['no_' ~ feed.feed['lines'], 'bad_' ~ feed.feed['lines'], 'bad_refund', 'unknown_cancelled_item'] -%}
      {%- do conditions.update({code: "trouble = '" ~ code ~ "'"}) -%}
    {%- endfor -%}
  {%- endif %}
  select
    *,
    {{ content_hash(by_name(entity.attributes), entity.types) }} as content,
    {{ reasons_that_hold(conditions) }} as reasons
  from {{ feed.name }}_typed
{% endmacro %}

{#- Lines of sales and refunds, by the day of a store and a currency. -#}
{% macro sales_by_day(lines) %}
  select
    sales_date,
    store_id,
    currency,
    count(distinct case when kind = 'sale' then transaction_id end) as count_transactions,
    count(case when kind = 'sale' then 1 end) as count_lines,
    cast(sum(case when kind = 'sale' then quantity else 0 end) as decimal(38, 4)) as units_sold,
    cast(sum(case when kind = 'sale' then amount else 0 end) as decimal(38, 4)) as gross_revenue,
    cast(sum(case when kind = 'refund' then amount else 0 end) as decimal(38, 4)) as refunds,
    cast(sum(case kind when 'sale' then amount else -amount end) as decimal(38, 4)) as net_revenue
  from {{ lines }}
  group by sales_date, store_id, currency
{% endmacro %}
