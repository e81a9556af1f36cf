{{ products_in_categories(ref('product_history'), ref('category')) }}
