{{ imputed_values() }}
